"""Read results, write tables, figures and the HTML report; never train."""
