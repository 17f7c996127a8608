"""Threshold rules with hysteresis and a holding time: pure, so that the Master and the daemons judge alike."""
