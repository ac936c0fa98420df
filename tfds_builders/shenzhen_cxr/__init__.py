"""Shenzhen Hospital: chest X-rays, most with lung masks, from screening for tuberculosis."""
