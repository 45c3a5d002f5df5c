"""What to cite: BibTeX of every method, data set and network, and of this library."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import dgjax
from dgjax.config import flatten


class Entry(NamedTuple):
  """A publication.

  Attributes:
    kind: BibTeX's, such as "inproceedings".
    fields: name -> text, the title in the case it is printed in.
  """

  kind: str
  fields: dict[str, str]

  def bibtex(self, key: str) -> str:
    """The entry as BibTeX, under a key; braces keep the title's capitals."""
    lines = [f"  {name} = {{{{{text}}}}}," if name == "title" else f"  {name} = {{{text}}},"
             for name, text in self.fields.items()]
    return "\n".join([f"@{self.kind}{{{key},", *lines, "}"])


def _talk(title: str, author: str, booktitle: str, year: int, **more: str) -> Entry:
  return Entry("inproceedings", {"title": title, "author": author, "booktitle": booktitle, "year": str(year), **more})


def _article(title: str, author: str, journal: str, year: int, **more: str) -> Entry:
  return Entry("article", {"title": title, "author": author, "journal": journal, "year": str(year), **more})


CVPR = "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)"
ICCV = "IEEE/CVF International Conference on Computer Vision (ICCV)"
ECCV = "European Conference on Computer Vision (ECCV)"
ICLR = "International Conference on Learning Representations (ICLR)"
ICML = "International Conference on Machine Learning (ICML)"
NEURIPS = "Advances in Neural Information Processing Systems (NeurIPS)"
AAAI = "AAAI Conference on Artificial Intelligence"

ENTRIES: dict[str, Entry] = {
    "dgjax": Entry("misc", {
        "title": "dgjax: domain generalisation and adaptation in JAX", "author": "{The dgjax authors}",
        "note": f"Version {dgjax.__version__}", "year": "2026"}),
    "alpaydin1998digits": Entry("misc", {
        "title": "Optical Recognition of Handwritten Digits", "author": "Alpaydin, Ethem and Kaynak, Cenk",
        "howpublished": "UCI Machine Learning Repository", "year": "1998"}),
    "balaji2018metareg": _talk(
        "MetaReg: Towards Domain Generalization using Meta-Regularization",
        "Balaji, Yogesh and Sankaranarayanan, Swami and Chellappa, Rama", NEURIPS, 2018),
    "bansal2018orthogonality": _talk(
        "Can We Gain More from Orthogonality Regularizations in Training Deep Networks?",
        "Bansal, Nitin and Chen, Xiaohan and Wang, Zhangyang", NEURIPS, 2018),
    "carlucci2019jigsaw": _talk(
        "Domain Generalization by Solving Jigsaw Puzzles",
        "Carlucci, Fabio M. and D'Innocente, Antonio and Bucci, Silvia and Caputo, Barbara and Tommasi, Tatiana", CVPR,
        2019),
    "chattopadhyay2020dmg": _talk(
        "Learning to Balance Specificity and Invariance for In and Out of Domain Generalization",
        "Chattopadhyay, Prithvijit and Balaji, Yogesh and Hoffman, Judy", ECCV, 2020),
    "cogswell2016decov": _talk(
        "Reducing Overfitting in Deep Networks by Decorrelating Representations",
        "Cogswell, Michael and Ahmed, Faruk and Girshick, Ross and Zitnick, Larry and Batra, Dhruv", ICLR, 2016),
    "duboudin2021rcl": _talk(
        "Encouraging Intra-Class Diversity Through a Reverse Contrastive Loss for Better Single-Source Domain "
        "Generalization",
        "Duboudin, Thomas and Dellandr{\\'e}a, Emmanuel and Abgrall, Corentin and H{\\'e}naff, Gilles and Chen, Liming",
        f"{ICCV} Workshops", 2021),
    "ganin2016dann": _article(
        "Domain-Adversarial Training of Neural Networks",
        "Ganin, Yaroslav and Ustinova, Evgeniya and Ajakan, Hana and Germain, Pascal and Larochelle, Hugo and "
        "Laviolette, Fran{\\c{c}}ois and Marchand, Mario and Lempitsky, Victor",
        "Journal of Machine Learning Research", 2016, volume="17", number="59", pages="1--35"),
    "ghifary2015mtae": _talk(
        "Domain Generalization for Object Recognition with Multi-Task Autoencoders",
        "Ghifary, Muhammad and Kleijn, W. Bastiaan and Zhang, Mengjie and Balduzzi, David", ICCV, 2015),
    "goodfellow2015adversarial": _talk(
        "Explaining and Harnessing Adversarial Examples",
        "Goodfellow, Ian J. and Shlens, Jonathon and Szegedy, Christian", ICLR, 2015),
    "he2016resnet": _talk(
        "Deep Residual Learning for Image Recognition",
        "He, Kaiming and Zhang, Xiangyu and Ren, Shaoqing and Sun, Jian", CVPR, 2016, pages="770--778"),
    "huang2020rsc": _talk(
        "Self-Challenging Improves Cross-Domain Generalization",
        "Huang, Zeyi and Wang, Haohan and Xing, Eric P. and Huang, Dong", ECCV, 2020),
    "hull1994usps": _article(
        "A Database for Handwritten Text Recognition Research", "Hull, Jonathan J.",
        "IEEE Transactions on Pattern Analysis and Machine Intelligence", 1994, volume="16", number="5",
        pages="550--554"),
    "krizhevsky2014alexnet": _article(
        "One Weird Trick for Parallelizing Convolutional Neural Networks", "Krizhevsky, Alex",
        "arXiv preprint arXiv:1404.5997", 2014),
    "lecun1998mnist": _article(
        "Gradient-Based Learning Applied to Document Recognition",
        "LeCun, Yann and Bottou, L{\\'e}on and Bengio, Yoshua and Haffner, Patrick", "Proceedings of the IEEE", 1998,
        volume="86", number="11", pages="2278--2324"),
    "lee2023wemnet": _talk(
        "Weight-based Mask for Domain Adaptation", "Lee, Eunseop and Kim, Inhan and Kim, Daijin",
        "IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)", 2023),
    "li2017pacs": _talk(
        "Deeper, Broader and Artier Domain Generalization",
        "Li, Da and Yang, Yongxin and Song, Yi-Zhe and Hospedales, Timothy M.", ICCV, 2017),
    "li2018mldg": _talk(
        "Learning to Generalize: Meta-Learning for Domain Generalization",
        "Li, Da and Yang, Yongxin and Song, Yi-Zhe and Hospedales, Timothy M.", AAAI, 2018),
    "li2021drt": _talk(
        "Dynamic Transfer for Multi-Source Domain Adaptation",
        "Li, Yunsheng and Yuan, Lu and Chen, Yinpeng and Wang, Pei and Vasconcelos, Nuno", CVPR, 2021),
    "motiian2017ccsa": _talk(
        "Unified Deep Supervised Domain Adaptation and Generalization",
        "Motiian, Saeid and Piccirilli, Marco and Adjeroh, Donald A. and Doretto, Gianfranco", ICCV, 2017),
    "netzer2011svhn": _talk(
        "Reading Digits in Natural Images with Unsupervised Feature Learning",
        "Netzer, Yuval and Wang, Tao and Coates, Adam and Bissacco, Alessandro and Wu, Bo and Ng, Andrew Y.",
        "NIPS Workshop on Deep Learning and Unsupervised Feature Learning", 2011),
    "peng2017visda": _article(
        "VisDA: The Visual Domain Adaptation Challenge",
        "Peng, Xingchao and Usman, Ben and Kaushik, Neela and Hoffman, Judy and Wang, Dequan and Saenko, Kate",
        "arXiv preprint arXiv:1710.06924", 2017),
    "peng2019m3sda": _talk(
        "Moment Matching for Multi-Source Domain Adaptation",
        "Peng, Xingchao and Bai, Qinxun and Xia, Xide and Huang, Zijun and Saenko, Kate and Wang, Bo", ICCV, 2019,
        pages="1406--1415"),
    "pezeshki2021starvation": _talk(
        "Gradient Starvation: A Learning Proclivity in Neural Networks",
        "Pezeshki, Mohammad and Kaba, S{\\'e}kou-Oumar and Bengio, Yoshua and Courville, Aaron and Precup, Doina and "
        "Lajoie, Guillaume", NEURIPS, 2021),
    "saenko2010office": _talk(
        "Adapting Visual Category Models to New Domains",
        "Saenko, Kate and Kulis, Brian and Fritz, Mario and Darrell, Trevor", ECCV, 2010, pages="213--226"),
    "sainath2015keyword": _talk(
        "Convolutional Neural Networks for Small-Footprint Keyword Spotting",
        "Sainath, Tara N. and Parada, Carolina", "Interspeech", 2015, pages="1478--1482"),
    "saito2018mcd": _talk(
        "Maximum Classifier Discrepancy for Unsupervised Domain Adaptation",
        "Saito, Kuniaki and Watanabe, Kohei and Ushiku, Yoshitaka and Harada, Tatsuya", CVPR, 2018, pages="3723--3732"),
    "shankar2018crossgrad": _talk(
        "Generalizing Across Domains via Cross-Gradient Training",
        "Shankar, Shiv and Piratla, Vihari and Chakrabarti, Soumen and Chaudhuri, Siddhartha and Jyothi, Preethi and "
        "Sarawagi, Sunita", ICLR, 2018),
    "tzeng2017adda": _talk(
        "Adversarial Discriminative Domain Adaptation",
        "Tzeng, Eric and Hoffman, Judy and Saenko, Kate and Darrell, Trevor", CVPR, 2017, pages="7167--7176"),
    "vapnik1998erm": Entry("book", {
        "title": "Statistical Learning Theory", "author": "Vapnik, Vladimir N.", "publisher": "Wiley", "year": "1998"}),
    "warden2018speech": _article(
        "Speech Commands: A Dataset for Limited-Vocabulary Speech Recognition", "Warden, Pete",
        "arXiv preprint arXiv:1804.03209", 2018),
    "xie2018mstn": _talk(
        "Learning Semantic Representations for Unsupervised Domain Adaptation",
        "Xie, Shaoan and Zheng, Zibin and Chen, Liang and Chen, Chuan", ICML, 2018, pages="5423--5432"),
}

METHODS: dict[str, tuple[str, ...]] = {
    "adda": ("tzeng2017adda",),
    "aggregate": ("vapnik1998erm",),
    "channel_dropout": ("duboudin2021rcl",),
    "crossgrad": ("shankar2018crossgrad",),
    "dan": ("ganin2016dann", "shankar2018crossgrad"),
    "dann": ("ganin2016dann",),
    "dmg": ("chattopadhyay2020dmg",),
    "jigsaw": ("carlucci2019jigsaw", "duboudin2021rcl"),
    "labelgrad": ("goodfellow2015adversarial", "shankar2018crossgrad"),
    "m3sda": ("peng2019m3sda",),
    "mcd": ("saito2018mcd",),
    "metareg": ("balaji2018metareg",),
    "mldg": ("li2018mldg",),
    "mstn": ("xie2018mstn",),
    "multi_headed": ("chattopadhyay2020dmg",),
    "rcl": ("duboudin2021rcl",),
    "reconstruction": ("ghifary2015mtae", "duboudin2021rcl"),
    "rsc": ("huang2020rsc",),
    "spectral_decoupling": ("pezeshki2021starvation",),
    "wemnet": ("lee2023wemnet",),
}
DATASETS: dict[str, tuple[str, ...]] = {
    "digit_five": ("peng2019m3sda", "lecun1998mnist", "ganin2016dann", "netzer2011svhn", "hull1994usps",
                   "alpaydin1998digits"),
    "digits": ("alpaydin1998digits",),
    "digits_mp": ("alpaydin1998digits", "duboudin2021rcl"),
    "domainnet": ("peng2019m3sda",),
    "folder": (),
    "fonts": ("shankar2018crossgrad",),
    "handwriting": ("shankar2018crossgrad",),
    "mnist_mp": ("duboudin2021rcl", "lecun1998mnist"),
    "mnist_up": ("duboudin2021rcl", "lecun1998mnist"),
    "office31": ("saenko2010office",),
    "pacs": ("li2017pacs",),
    "rotated_digits": ("alpaydin1998digits", "ghifary2015mtae"),
    "rotated_mnist": ("ghifary2015mtae", "lecun1998mnist"),
    "speech_commands": ("warden2018speech",),
    "tfds": (),
    "visda2017": ("peng2017visda",),
}
NETWORKS: dict[str, tuple[str, ...]] = {
    "alexnet": ("krizhevsky2014alexnet",),
    "convnet2": ("motiian2017ccsa",),
    "digitnet": ("peng2019m3sda",),
    "digitnet_small": (),
    "kwsnet": ("sainath2015keyword",),
    "lenet3": ("shankar2018crossgrad",),
    "lenet4": ("shankar2018crossgrad",),
    "mnistnet": ("carlucci2019jigsaw", "duboudin2021rcl"),
    "resnet101": ("he2016resnet",),
    "resnet18": ("he2016resnet",),
    "resnet2": ("he2016resnet",),
    "resnet34": ("he2016resnet",),
    "resnet50": ("he2016resnet",),
    "smallnet": (),
}
# Config key -> for which values it adds which publications.
OPTIONS: tuple[tuple[str, Callable[[Any], bool], tuple[str, ...]], ...] = (
    ("model.dynamic", lambda value: value != "none", ("li2021drt",)),
    ("algorithm.form", lambda value: value == "one_step", ("li2021drt",)),
    ("algorithm.self_training.rounds", bool, ("li2021drt",)),
    ("algorithm.orthogonality_weight", bool, ("bansal2018orthogonality",)),
    ("algorithm.covariance_weight", bool, ("cogswell2016decov",)),
    ("algorithm.base", lambda value: value == "mstn", ("xie2018mstn",)),
)
SECTIONS = {"method": ("algorithm", METHODS), "data set": ("data", DATASETS), "network": ("model", NETWORKS)}


def cited(config: Mapping[str, Any]) -> dict[str, list[str]]:
  """What a run is to cite.

  Args:
    config: of the run, nested, as its `config.json` holds it.

  Returns:
    "method NAME", "data set NAME", "network NAME" and "software" -> keys of `ENTRIES`; none where nothing is known to
    cite, as for one's own images.
  """
  flat = flatten(config)
  found = {f"{kind} {config[section]['name']}": list(known.get(config[section]["name"], ()))
           for kind, (section, known) in SECTIONS.items()}
  added = [key for setting, applies, keys in OPTIONS if applies(flat.get(setting)) and setting in flat for key in keys]
  method = next(iter(found))
  found[method] = list(dict.fromkeys([*found[method], *added]))
  return {**found, "software": ["dgjax"]}


def bibtex(keys: Iterable[str]) -> str:
  """The entries of some keys as BibTeX, a blank line between them."""
  return "\n\n".join(ENTRIES[key].bibtex(key) for key in keys)
