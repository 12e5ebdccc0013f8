"""How good a model is: accuracy, calibration, and accuracy as each client would see it."""
