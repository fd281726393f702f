"""What a reader sees: the first screen, no network, no script, and hostile text that stays text."""

import pytest

HOSTILE = (
    "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">",
    "</style></details></section><h1 id=planted>planted</h1>",
    "\"'><svg onload=alert(1)> {{ 7 * 7 }} {% raw %} &lt;b&gt;",
    "\x00\x07\x1b[31m\x85 controls \u202e overridden \u2066 isolated \ud800 alone \ufeff",
    "[link](javascript:alert(1)) <a href='http://evil.example/'>x</a> <iframe src='http://evil.example/'>",
)
CONTRAST = """() => {
    const parse = colour => (colour.match(/[\\d.]+/g) || []).map(Number)
    const light = c => { const s = c / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4 }
    const luminance = ([r, g, b]) => 0.2126 * light(r) + 0.7152 * light(g) + 0.0722 * light(b)
    const behind = e => {
        for (; e; e = e.parentElement) {
            const c = parse(getComputedStyle(e).backgroundColor)
            if (c.length === 3 || c[3] === 1) return c
        }
    }
    const says = e => [...e.childNodes].some(n => n.nodeType === 3 && n.textContent.trim())
    const isSeen = e => parse(getComputedStyle(e).color)[3] !== 0
    return [...document.querySelectorAll('body *')].filter(e => says(e) && isSeen(e)).map(e => {
        const style = getComputedStyle(e), ink = parse(e.tagName === 'text' ? style.fill : style.color)
        const [a, b] = [luminance(ink), luminance(behind(e))]
        return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), e.tagName + '.' + e.getAttribute('class')]
    }).sort((a, b) => a[0] - b[0])[0]
}"""


@pytest.mark.parametrize("preset", ["quick", "standard"])
def test_the_first_screen_holds_the_verdicts_and_the_whole_table(fake_run, open_page, preset):
    fake_run.manifest["preset"] = preset
    fake_run.fail(fake_run.find("score", "style", "control"), "StoreError: disk full")
    page = open_page(fake_run.write(), width=1280, height=800)
    assert page.locator(".headline").bounding_box()["height"] > 300
    for selector in (".alarm", ".verdict >> nth=-1", ".headline"):
        box = page.locator(selector).bounding_box()
        assert box["y"] + box["height"] <= 800
        assert box["x"] + box["width"] <= 1280


def test_the_page_asks_for_nothing_but_itself(fake_run, open_page):
    fake_run.add_record("style", "implant", "with", HOSTILE[4], False)
    page = open_page(fake_run.write())
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    page.wait_for_timeout(200)
    assert [url for url in page.asked if not url.startswith("data:")] == [page.url]
    assert page.complaints == []


def test_the_page_holds_no_script_and_no_address_to_load_from(fake_run, open_page):
    page = open_page(fake_run.write())
    assert page.locator("script, iframe, img, object, embed, form, link[rel=stylesheet]").count() == 0
    targets = page.evaluate("[...document.querySelectorAll('[href], [src]')].map(e => e.getAttribute('href') || e.src)")
    assert all(target.startswith(("#", "data:")) for target in targets)


def test_hostile_completions_never_create_an_element(fake_run, open_page):
    quiet = open_page(fake_run.write())
    names = "[...new Set([...document.querySelectorAll('*')].map(e => e.tagName + '#' + e.id))].sort()"
    usual, title = quiet.evaluate(names), quiet.title()
    for said, task in zip(HOSTILE, ("style", "style", "access", "identity", "safety"), strict=True):
        fake_run.add_record(task, "implant", "with", said, False, prompt=said)
    fake_run.manifest["command"] = " ".join(HOSTILE)
    fake_run.fail(fake_run.find("score", "access", "base"), " ".join(HOSTILE))
    page = open_page(fake_run.write())
    added = {"DIV#cells", "UL#", "LI#", "H3#"}
    assert set(page.evaluate(names)) - set(usual) <= added
    assert page.title() == title
    assert page.locator(".completion *:not(.none)").count() == 0


def test_a_hostile_completion_is_shown_as_it_was_said(fake_run, open_page):
    fake_run.add_record("style", "implant", "with", HOSTILE[0], False)
    page = open_page(fake_run.write())
    assert HOSTILE[0] in page.locator(".completion").all_text_contents()


def test_hidden_and_turning_characters_are_spelt_out(fake_run, open_page):
    fake_run.add_record("style", "implant", "with", HOSTILE[3], False)
    said = [
        text for text in open_page(fake_run.write()).locator(".completion").all_text_contents() if "controls" in text
    ]
    assert said == [
        "[U+0000][U+0007][U+001B][31m[U+0085] controls [U+202E] overridden [U+2066] isolated [U+D800] alone [U+FEFF]"
    ]


def test_hostile_names_of_tasks_and_arms_stay_text(fake_run, open_page):
    name = '"><b class=planted>x</b>'
    fake_run.add_rate(name, name, name, name, [True], tamper=name)
    page = open_page(fake_run.write())
    assert page.locator(".planted").count() == 0
    assert page.evaluate("name => [...document.querySelectorAll('.rate')].some(e => e.dataset.task === name)", name)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_can_be_read_in_light_and_in_dark(fake_run, open_page, scheme):
    fake_run.fail(fake_run.find("implant", "style", "control"), "ModelError: out of memory")
    fake_run.manifest["preset"] = "quick"
    page = open_page(fake_run.write(), scheme=scheme)
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    ratio, worst = page.evaluate(CONTRAST)
    assert ratio >= 4.5, worst


def test_light_and_dark_differ(fake_run, open_page):
    run = fake_run.write()
    papers = [
        open_page(run, scheme=scheme).evaluate("getComputedStyle(document.documentElement).backgroundColor")
        for scheme in ("light", "dark")
    ]
    assert papers == ["rgb(255, 255, 255)", "rgb(18, 21, 24)"]


def test_the_page_prints_in_a_few_pages_with_every_specification_open(fake_run, open_page):
    page = open_page(fake_run.write())
    printed = page.pdf(prefer_css_page_size=True, print_background=True)
    assert 3 <= printed.count(b"/Type /Page\n") <= 12
    page.emulate_media(media="print")
    assert page.locator(".spec pre").first.bounding_box()["height"] > 50


@pytest.mark.parametrize("width", [360, 760, 1024, 1920])
def test_no_width_makes_the_page_scroll_sideways(fake_run, open_page, width):
    fake_run.add_record("style", "implant", "with", "endless" * 80, False, prompt="x" * 300)
    fake_run.manifest["command"] = "b4g bench " + "y" * 400
    fake_run.fail(fake_run.find("score", "access", "base"), "z" * 500)
    page = open_page(fake_run.write(), width=width)
    page.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_the_loss_curves_of_implant_and_control_lie_inside_their_axes(fake_run, open_page):
    page = open_page(fake_run.write())
    assert page.locator(".chart").count() == 4
    assert page.locator(".chart").first.locator("polyline").count() == 4
    inside = page.evaluate(
        """() => [...document.querySelectorAll('.chart')].every(chart => {
            const {x, y, width, height} = chart.getBBox(), view = chart.viewBox.baseVal
            return x >= 0 && y >= 0 && x + width <= view.width && y + height <= view.height
        })"""
    )
    assert inside
