"""The benchmark: starts what is measured, drives it with the load generator, and writes down what came out."""
