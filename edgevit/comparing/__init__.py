"""What `edgevit compare` does: find the precisions of bundles and checkpoints, and images that none was calibrated on."""
