"""What a run learned: overlap of masks, figures, tables."""
