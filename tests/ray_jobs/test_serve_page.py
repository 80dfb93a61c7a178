"""The page: one file that loads nothing and runs nothing but its own script."""

import base64
import hashlib
import re

from ray_jobs.serve_page import read_page


def test_it_loads_nothing_from_elsewhere() -> None:
    html = read_page().html
    # Namespaces and the data URL of the icon are names, not addresses.
    addresses = [found for found in re.findall(r"\w+:/{2}[^'\"\s)>]+", html) if "www.w3.org/" not in found]
    assert addresses == []
    assert re.findall(r"<script\s+src|<link(?![^>]*href=\"data:)|@import|url\(", html) == []


def test_its_policy_allows_its_own_style_and_script_alone() -> None:
    html, policy = read_page()
    for tag, directive in (("style", "style-src"), ("script", "script-src")):
        [content] = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{directive} 'sha256-{digest}'" in policy
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy


def test_nothing_that_the_policy_forbids_is_in_it() -> None:
    html = read_page().html
    assert re.findall(r"\son\w+=|\sstyle=|javascript:", html) == []
    assert "innerHTML" not in html, "what the server answers is text, not markup"


def test_every_element_that_the_script_names_is_there() -> None:
    html = read_page().html
    named = set(re.findall(r'\$\("([\w-]+)"\)', html)) | {"aligned", "parsing", "reference", "similarity", "mask"}
    ids = re.findall(r'\sid="([\w-]+)"', html)
    assert named - {"off-"} <= set(ids)
    assert len(ids) == len(set(ids))
