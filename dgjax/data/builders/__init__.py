"""One file per data set, each a `Layout`: where its examples are and how they are split."""
