"""Training: the LightningModule and what surrounds it."""
