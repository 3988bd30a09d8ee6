"""A visit to a page of the book: opened, settled, and everything noted that was loaded or went wrong on the way."""

from __future__ import annotations

from browser import PATIENCE

STATE = "application/vnd.jupyter.widget-state+json"
VIEW = "application/vnd.jupyter.widget-view+json"


class Visit:
    """One page, opened and settled, with everything that went wrong on the way."""

    def __init__(self, browser, address, page, width, theme):
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=theme, reduced_motion="reduce"
        )
        self.context.set_default_timeout(PATIENCE)
        self.address, self.foreign, self.failed, self.console = address, [], [], []
        self.answers = {}
        self.context.route("**/*", self.let_through)
        self.page = self.context.new_page()
        self.page.on("console", self.hear)
        self.page.on("pageerror", lambda error: self.console.append(f"script error: {error}"))
        self.page.on("requestfailed", lambda request: self.failed.append(request.url))
        self.page.on("response", self.keep)
        self.page.goto(f"{address}/{page}", wait_until="load")
        self.settle()

    def let_through(self, route):
        if route.request.url.startswith((self.address, "data:", "blob:")):
            route.continue_()
        else:
            self.foreign.append(route.request.url)
            route.abort()

    def keep(self, answer):
        self.answers[answer.url] = answer
        if answer.status >= 400:
            self.failed.append(answer.url)

    def hear(self, message):
        if message.type in {"error", "warning"}:
            self.console.append(f"{message.type}: {message.text}")

    def settle(self):
        """Wait until the network is quiet, the math is set and the widgets stand."""
        self.page.wait_for_load_state("networkidle")
        self.page.evaluate("() => window.MathJax?.startup?.promise")
        self.page.wait_for_function(
            f"""() => !document.querySelector('script[type="{STATE}"]')
                || document.querySelectorAll('script[type="{VIEW}"]').length
                   === document.querySelectorAll('.widget-subarea').length"""
        )
        self.page.evaluate("() => document.fonts.ready")
        self.page.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
