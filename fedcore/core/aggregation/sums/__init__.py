"""Sums of increments as 64-bit integers: any order, grouping or retry gives the same bits. And their bytes."""
