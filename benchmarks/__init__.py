"""How fast domicile is: `make bench`.

Every figure is the best of a few runs, in CPU time of this process, since others use the machine too; ratios are taken
between runs that alternate.
"""
