"""How nodes learn of each other: a mechanism a module, and `discovery`, which ties them."""
