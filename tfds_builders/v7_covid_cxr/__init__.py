"""V7 Labs COVID-19 X-ray dataset: chest X-rays with lung polygons and diagnoses."""
