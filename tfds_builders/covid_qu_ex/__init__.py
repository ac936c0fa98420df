"""COVID-QU-Ex: chest X-rays with lung and infection masks."""
