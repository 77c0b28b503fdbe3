"""Monitors that log what layers do while a network trains, one file per training framework: `keras`, `lightning`."""
