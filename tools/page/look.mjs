// Looks at the page of `cloze serve` in a real browser: every tool that it offers is used, by mouse and by keyboard; nothing
// may fail, spill over the edge of a phone, come from elsewhere or break the page's own policy. Pictures go to a folder.
//
//   npm install --no-package-lock && node look.mjs http://127.0.0.1:3000 pictures [--key KEY] [--tree]
//
// `--tree` takes the page's files from the working tree, so that a change shows without a build. CHROMIUM names the browser.

import { mkdirSync, readFileSync } from "node:fs";
import { parseArgs } from "node:util";

import { chromium } from "playwright-core";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { key: { type: "string" }, tree: { type: "boolean" } },
});
const [address = "http://127.0.0.1:3000", folder = "pictures"] = positionals;
mkdirSync(folder, { recursive: true });

const faults = [];
const check = (is, message) => is || faults.push(message);

const TREE = new URL("../../crates/serve/src/page/", import.meta.url);
const KINDS = { html: "text/html; charset=utf-8", css: "text/css", js: "text/javascript", svg: "image/svg+xml" };

async function fromTree(route) {
  const { pathname } = new URL(route.request().url());
  const name = { "/": "index.html", "/docs": "docs.html" }[pathname] ?? pathname.split("/").at(-1);
  const { headers } = await route.fetch({ headers: { accept: "text/html" } }).then((r) => ({ headers: r.headers() }));
  await route.fulfill({
    status: 200,
    headers: {
      "content-type": KINDS[name.split(".").at(-1)],
      "content-security-policy": headers["content-security-policy"] ?? "default-src 'self'",
    },
    body: readFileSync(new URL(name, TREE)),
  });
}

async function open(browser, options) {
  const context = await browser.newContext(options);
  if (values.tree) await context.route(/\/(docs|page\/[a-z.]+)?(#.*)?$/, fromTree);
  const page = await context.newPage();
  page.on("console", (message) => {
    const refused = values.key && message.text().includes("401");
    if (message.type() === "error" && !refused) faults.push(`console: ${message.text()}`);
  });
  page.on("pageerror", (error) => faults.push(`script: ${error.message}`));
  page.on("request", (request) => check(request.url().startsWith(address), `asks elsewhere: ${request.url()}`));
  await page.goto(`${address}/`);
  if (values.key) {
    await page.fill("#key", values.key);
    await page.keyboard.press("Enter");
  }
  await page.waitForSelector('[role="tab"]');
  return page;
}

async function use(page, name, look) {
  const id = (await page.locator('[role="tab"][aria-selected="true"]').getAttribute("id")).slice(4);
  const panel = page.locator(`#panel-${id}`);
  if (id === "recommend") {
    for (let at = 0; at < 3; at += 1) await panel.locator(".found button").nth(at).click();
    await panel.locator('input[type="search"]').fill("zzzz no such");
    await panel.getByText("No such item.").waitFor();
    await panel.locator('input[type="search"]').fill("");
    await panel.locator(".found button").nth(2).waitFor();
  }
  await panel.locator("button.main").click();
  await panel.locator(".result .meta, .result .fault").first().waitFor();
  const fault = panel.locator(".result .fault");
  check((await fault.count()) === 0, `${name} ${id}: ${await fault.allTextContents()}`);
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `${name} ${id}: ${wide} pixels wider than the window`);
  const bare = await page.evaluate(() =>
    [...document.querySelectorAll("input, textarea, select")].filter((field) => !field.labels.length).map((field) => field.outerHTML),
  );
  check(bare.length === 0, `${name} ${id}: fields without a label: ${bare}`);
  await page.screenshot({ path: `${folder}/${look}-${id}.png`, fullPage: true });
  return id;
}

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
const LOOKS = {
  light: { colorScheme: "light", viewport: { width: 1200, height: 860 } },
  dark: { colorScheme: "dark", viewport: { width: 1200, height: 860 } },
  phone: { colorScheme: "light", viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true },
};
for (const [look, options] of Object.entries(LOOKS)) {
  const page = await open(browser, options);
  const tabs = page.locator('[role="tab"]');
  const count = await tabs.count();
  await tabs.first().focus();
  const used = [];
  for (let at = 0; at < count; at += 1) {
    used.push(await use(page, look, look));
    await page.locator('[role="tab"][aria-selected="true"]').focus();
    await page.keyboard.press("ArrowRight");
  }
  check(new Set(used).size === count, `${look}: arrows do not reach every tab: ${used}`);
  await page.locator("#live dd").first().waitFor();
  await page.waitForTimeout(look === "light" ? 5000 : 0);
  await page.screenshot({ path: `${folder}/${look}-live.png`, fullPage: true });
  await page.goto(`${address}/docs`);
  await page.locator(".route").nth(5).waitFor();
  await page.locator(".route summary").first().click();
  const wide = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
  check(wide <= 0, `${look} docs: ${wide} pixels wider than the window`);
  await page.screenshot({ path: `${folder}/${look}-docs.png`, fullPage: true });
  console.log(`${look}: ${used.join(", ")}, docs`);
}
await browser.close();
for (const fault of new Set(faults)) console.error(fault);
process.exit(faults.length ? 1 : 0);
