"""Math questions from data files, and grading of answers to them."""
