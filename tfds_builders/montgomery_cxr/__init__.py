"""Montgomery County: chest X-rays with lung masks, from screening for tuberculosis."""
