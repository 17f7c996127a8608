// Bundles the console: `node build.mjs FOLDER` writes index.html and files named for their content below FOLDER.
// src/generated must be there: `make console` generates it from protos/ first.
import { readFile, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";

import { build } from "esbuild";

const folder = process.argv[2];
if (folder === undefined) throw new Error("usage: node build.mjs FOLDER");

const { metafile } = await build({
  entryPoints: { console: "src/main.tsx", style: "src/style.css", icon: "src/icon.svg" },
  outdir: join(folder, "assets"),
  entryNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  loader: { ".svg": "copy" },
  bundle: true,
  format: "esm",
  target: ["chrome123", "firefox124", "safari17.5"],
  jsx: "automatic",
  jsxImportSource: "preact",
  minify: true,
  legalComments: "linked",
  metafile: true,
  logLevel: "warning",
});

const addresses = {};
for (const [path, output] of Object.entries(metafile.outputs)) {
  if (output.entryPoint) addresses[basename(output.entryPoint)] = `/assets/${basename(path)}`;
}
const page = (await readFile("index.html", "utf8"))
  .replace("{icon}", addresses["icon.svg"])
  .replace("{style}", addresses["style.css"])
  .replace("{script}", addresses["main.tsx"]);
await writeFile(join(folder, "index.html"), page);
