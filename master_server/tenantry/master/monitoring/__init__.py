"""The Master's metrics about itself, in Prometheus' format. Nothing else in the Master knows Prometheus."""
