"""How fast domicile is: `make bench`. Figures are medians of one run on one machine, ratios where there is a rival."""
