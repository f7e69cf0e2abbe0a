"""Explanations: worked steps, reports, claims and exercises, all from one derivation."""
