// Reads an AsyncAPI document from the standard input and prints what the reference parser says of it, as JSON.
const { readFileSync } = require("node:fs");
const { Parser } = require("@asyncapi/parser");

new Parser().parse(readFileSync(0, "utf8")).then(({ document, diagnostics }) => {
  const found = diagnostics.map(({ code, severity, message, path }) => ({ code, severity, message, path }));
  const messages = document === undefined ? [] : document.allMessages().all().map((one) => one.id());
  process.stdout.write(JSON.stringify({ is_valid: document !== undefined, messages, diagnostics: found }));
});
