"""Tasks: one file each gives training conversations, held-out problems and grades; ``mixture`` lists them."""
