"""A launch of verl, TRL or ms-swift read before it runs: the loss it gives, in our terms, and what is wrong with it."""
