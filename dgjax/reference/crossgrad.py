"""Published numbers of CrossGrad (Shankar et al., ICLR 2018): Tables 4, 5 and 9, accuracies in percent.

Table 5 holds Table 4's columns of fonts and handwriting, and is split here by data set. Cells that our copy of the
paper does not show legibly are left out: the baseline on handwriting, and with the ResNet; so is most of Table 8
(numbers of speakers). CCSA and D-MTAE are as their own papers report them.
"""

from dgjax.reference.table import Ours, Table, parse

TITLE = "Generalizing Across Domains via Cross-Gradient Training (ICLR 2018)"

_HEADERS = {"aggregate": "Baseline", "dan": "DAN", "labelgrad": "LabelGrad", "crossgrad": "CrossGrad"}
METHODS = {data: tuple(Ours(method, (header,), {"data.name": data}) for method, header in _HEADERS.items())
           for data in ("fonts", "handwriting", "rotated_mnist", "speech_commands")}

_FONTS = """
lenet3  | Baseline  | 68.5
lenet3  | DAN       | 68.9
lenet3  | LabelGrad | 71.4
lenet3  | CrossGrad | 72.6
resnet2 | DAN       | 81.1
resnet2 | LabelGrad | 80.5
resnet2 | CrossGrad | 82.4
"""
_HANDWRITING = """
lenet3  | DAN       | 83.8
lenet3  | LabelGrad | 86.3
lenet3  | CrossGrad | 88.6
resnet2 | DAN       | 88.5
resnet2 | LabelGrad | 91.8
resnet2 | CrossGrad | 92.1
"""
_SPEECH = """
kwsnet | Baseline  | 72.6
kwsnet | DAN       | 70.4
kwsnet | LabelGrad | 72.7
kwsnet | CrossGrad | 73.5
"""
_TABLE_9 = """
convnet2 | CCSA      | 84.6 95.6 94.6 82.9 94.8 82.1
convnet2 | D-MTAE    | 82.5 96.3 93.4 78.6 94.2 80.5
convnet2 | LabelGrad | 89.7 97.8 98.0 97.1 96.6 92.1
convnet2 | DAN       | 86.7 98.0 97.8 97.4 96.9 89.1
convnet2 | CrossGrad | 88.3 98.6 98.0 97.7 97.7 91.4
"""
_ANGLES = ("M0", "M15", "M30", "M45", "M60", "M75")
_NEW = {"Test": "unseen"}

TABLES = {
    "4-speech": Table("crossgrad", "4-speech", "accuracy (%) on words of unseen speakers, 100 training speakers",
                      ("Test",), parse(_SPEECH), _NEW, methods=METHODS["speech_commands"]),
    "5-fonts": Table("crossgrad", "5-fonts", "accuracy (%) on characters of unseen fonts", ("Test",), parse(_FONTS),
                     _NEW, methods=METHODS["fonts"]),
    "5-handwriting": Table("crossgrad", "5-handwriting", "accuracy (%) on characters of unseen writers", ("Test",),
                           parse(_HANDWRITING), _NEW, methods=METHODS["handwriting"]),
    "9": Table("crossgrad", "9", "accuracy (%) on rotated MNIST, one angle unseen", _ANGLES, parse(_TABLE_9),
               dict(zip(_ANGLES, _ANGLES, strict=True)), methods=METHODS["rotated_mnist"]),
}
