"""Training: the pool of Lightning Trainers and what it trains most, a classifier."""
