"""Splits by patient: drawn or checked, and written down."""
