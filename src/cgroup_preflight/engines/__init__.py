"""Who starts units: the service managers, and what a run needs of them."""
