"""PPM and its relatives."""

from tests.pictures.hostile.catalogue import ANYTHING, BROKEN, MEGABYTE, PREPARED, REJECTED, SIDE, TOO_LARGE, hostile

hostile("ppm_of_10_gigapixels", lambda: b"P6 100000 100000 255\n", TOO_LARGE)
hostile("ppm_plain_of_10_gigapixels", lambda: b"P3 100000 100000 255\n" + b"0 " * 1000, TOO_LARGE)
hostile("ppm_of_ten_digits_a_side", lambda: b"P6 9999999999 9999999999 255\n", TOO_LARGE)
hostile("ppm_of_negative_size", lambda: b"P6 -100 -100 255\n" + bytes(30_000), BROKEN)
hostile("ppm_of_0_by_0", lambda: b"P6 0 0 255\n", BROKEN)
hostile("ppm_of_0_by_100", lambda: b"P3 0 100 255\n0 0 0", BROKEN)
hostile("ppm_of_no_colours", lambda: b"P6 10 10 0\n" + bytes(300), BROKEN)
hostile("ppm_of_words", lambda: b"P6 ten ten many\n" + bytes(300), BROKEN)
for kind, name in [(b"P1", "bits"), (b"P2", "grey"), (b"P3", "colours")]:
    top = b"" if kind == b"P1" else b"255\n"
    hostile(
        f"ppm_plain_just_under_the_limit_{name}",
        lambda kind=kind, top=top: kind + b" %d %d\n" % (SIDE, SIDE) + top + b"0 " * 47_000_000,
        ANYTHING,
    )
    hostile(
        f"ppm_plain_of_45_megapixels_{name}",
        lambda kind=kind, top=top: kind + b" 6700 6700\n" + top + b"0 " * 45_000_000,
        ANYTHING,
    )
    hostile(
        f"ppm_plain_of_a_million_comments_{name}",
        lambda kind=kind, top=top: kind + b" 100 100\n" + top + b"#\n" * 1_000_000,
        ANYTHING,
    )
    hostile(
        f"ppm_plain_without_pixels_{name}",
        lambda kind=kind, top=top: kind + b" 14142 14142\n" + top,
        REJECTED,
    )
hostile("ppm_of_31_megapixels_of_100_shades", lambda: b"P6 5600 5600 100\n" + bytes(5600 * 5600 * 3), ANYTHING)
hostile("pgm_of_47_megapixels_of_1000_shades", lambda: b"P5 6800 6800 1000\n" + bytes(6800 * 6800 * 2), ANYTHING)
hostile(
    "pgm_of_95_megapixels_of_16_bits", lambda: b"P5 6800 6800 65535\n" + bytes(6800 * 6800 * 2), PREPARED | TOO_LARGE
)
hostile(
    "ppm_behind_95_mb_of_comment", lambda: b"P6\n#" + b"x" * 95 * MEGABYTE + b"\n10 10 255\n" + bytes(300), ANYTHING
)
hostile("ppm_behind_95_mb_of_blanks", lambda: b"P6" + b" " * 95 * MEGABYTE + b"10 10 255\n" + bytes(300), ANYTHING)
hostile("ppm_of_floats_that_are_none", lambda: b"Pf\n10 10\nnan\n" + bytes(400), BROKEN)
