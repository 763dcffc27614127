"""The few loops that decide the speed, in numba: plain arrays in, plain arrays out."""
