"""Many models of one recipe, and the scaling laws that fit them."""
