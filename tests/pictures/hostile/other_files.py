"""Files that are not pictures, and pictures that are something else as well."""

import gzip

from tests.pictures.hostile.catalogue import (
    DOCUMENT,
    HTML,
    MEGABYTE,
    NO_IMAGE,
    PREPARED,
    REJECTED,
    gradient,
    hostile,
    save,
)
from tests.pictures.hostile.jpeg_files import jpeg, jpeg_behind, segment
from tests.pictures.hostile.png_files import png

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><rect width="9" height="9"/></svg>'

hostile("no_bytes", lambda: b"", frozenset({"empty"}))
hostile("one_byte", lambda: b"\x89", NO_IMAGE)
hostile("a_gigabyte_of_zeroes", lambda: bytes(10**9), NO_IMAGE)
hostile("100_mb_of_blanks", lambda: b" " * 100 * MEGABYTE, NO_IMAGE)
hostile("html", lambda: HTML, NO_IMAGE)
hostile("html_with_a_drawing_in_it", lambda: b"<html><body>" + SVG + b"</body></html>", NO_IMAGE | DOCUMENT)
hostile("pdf", lambda: b"%PDF-1.7\n1 0 obj\n<<>>\nendobj\n" + bytes(10_000), DOCUMENT)
hostile("pdf_behind_a_byte_order_mark", lambda: b"\xef\xbb\xbf%PDF-1.7\n", NO_IMAGE | DOCUMENT)
hostile("svg", lambda: SVG, DOCUMENT)
hostile("svg_behind_a_declaration", lambda: b'<?xml version="1.0"?>\n<!-- made by hand -->\n' + SVG, DOCUMENT)
hostile("svg_behind_a_byte_order_mark", lambda: b"\xef\xbb\xbf" + SVG, DOCUMENT)
hostile(
    "svg_of_entities_of_entities",
    lambda: b'<?xml version="1.0"?><!DOCTYPE svg [<!ENTITY a "&b;&b;"><!ENTITY b "&a;&a;">]><svg>&a;</svg>',
    NO_IMAGE | DOCUMENT,
)
hostile("svg_behind_thousands_of_comments", lambda: b"<!---->" * 100_000 + SVG, NO_IMAGE | DOCUMENT)
hostile("comments_and_nothing_else", lambda: b"<!---->" * 580, NO_IMAGE)
hostile("declarations_and_nothing_else", lambda: b"<?xml?> \n<!DOCTYPE a>" * 10_000, NO_IMAGE)
hostile("comments_that_never_end", lambda: b"<!--" * 10_000, NO_IMAGE)
hostile("comments_that_nearly_end", lambda: b"<!-- >" * 10_000_000, NO_IMAGE)
hostile("declarations_that_never_end", lambda: b"<!a" * 20_000_000, NO_IMAGE)
hostile("declarations_in_quotes", lambda: b"<!'>'\">" * 10_000_000, NO_IMAGE)
hostile("instructions_that_never_end", lambda: b"<? " * 20_000_000, NO_IMAGE)
hostile("entities_and_nothing_else", lambda: b"%a;" * 20_000_000, NO_IMAGE)
hostile("svg_behind_100_mb_of_blanks_in_utf_16", lambda: b"\xff\xfe" + b" \0" * (50 * MEGABYTE), NO_IMAGE)
hostile("gzip_bomb", lambda: gzip.compress(bytes(10**8)) * 9, NO_IMAGE)
hostile("gzip_of_nothing_whole", lambda: b"\x1f\x8b\x08\0" + b"\xff" * 1000, NO_IMAGE)
hostile("film_of_100_mb_of_brands", lambda: b"\x06\0\0\0ftypisom" + b"avi " * (25 * MEGABYTE), DOCUMENT)
hostile("zip", lambda: b"PK\x03\x04" + bytes(1000), NO_IMAGE)
for start, name in [
    (b"BM", "bmp"),
    (b"GIF89a", "gif"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\0", "tiff"),
    (b"RIFF\xff\xff\xff\xffWEBP", "webp"),
    (b"\0\0\x01\0", "ico"),
    (b"P6", "ppm"),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "jpeg_2000"),
    (b"\xff\x4f\xff\x51", "jpeg_2000_stream"),
    (b"\0\0\0\x18ftypheic", "heic"),
    (b"\0\0\0\x18ftypavif", "avif"),
    (b"\x89PNG\r\n\x1a\n", "png"),
]:
    hostile(f"start_of_a_{name}_and_zeroes", lambda start=start: start + bytes(50 * MEGABYTE), REJECTED)
    hostile(f"start_of_a_{name}_and_ones", lambda start=start: start + b"\xff" * 1000, REJECTED)
    hostile(f"start_of_a_{name}_only", lambda start=start: start, REJECTED)
hostile("png_and_zip_in_one", lambda: png((64, 64)) + b"PK\x03\x04" + bytes(1000), PREPARED)
hostile("jpeg_and_html_in_one", lambda: jpeg_behind(segment(0xFE, HTML)) + HTML, PREPARED)
hostile("jpeg_and_pdf_in_one", lambda: jpeg_behind(segment(0xFE, b"%PDF-1.7")) + b"%%EOF", PREPARED)
hostile("gif_and_script_in_one", lambda: save(gradient(), "GIF") + b"/*" + HTML + b"*/", PREPARED)
hostile("script_that_starts_as_a_gif", lambda: b"GIF89a/*" + bytes(100) + b"*/=1;alert(1)", REJECTED)
hostile("html_and_jpeg_in_one", lambda: HTML + jpeg((64, 64)), NO_IMAGE)
hostile("pdf_and_jpeg_in_one", lambda: b"%PDF-1.7\n" + jpeg((64, 64)), DOCUMENT)
hostile("two_pngs_in_one", lambda: png((64, 64)) + png((30_000, 30_000), data=b""), PREPARED)
