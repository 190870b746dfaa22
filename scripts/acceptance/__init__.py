"""make acceptance: six prompts on real AWS, and a bundle of what it said."""
