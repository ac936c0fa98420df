"""Splits by patient: drawing or checking them, and the CSV that records them."""
