"""Losses: functions of logits and targets, a topic per file."""
