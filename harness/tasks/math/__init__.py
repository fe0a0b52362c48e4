"""Math questions from data files, and grading of their answers."""
