// Bundles the page into one script and one style sheet. Called by deploy/page.sh with the folder to write to.
import { buildSync } from "esbuild";
import { copyFileSync } from "node:fs";

const out = process.argv[2];
buildSync({
  entryPoints: { app: "app/main.tsx" }, outdir: out, bundle: true, minify: true, format: "esm", target: "es2022",
  jsx: "automatic", jsxImportSource: "preact", legalComments: "none", charset: "utf8", logLevel: "warning",
  banner: { js: "/* Holds Preact and uPlot, both under the MIT licence; their notices are in their packages, which src/page/package.json names. */" },
});
copyFileSync("app/index.html", `${out}/index.html`);
