// Prints what Microsoft's own Kusto parser finds wrong in the queries that it is given on stdin, as JSON:
//   {"<name>": "<query>", ...} -> {"<name>": ["<message>", ...], ...}
// The tables are those of Application Insights, with the columns that our queries may use.
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import vm from "node:vm";

const require = createRequire(import.meta.url);
for (const file of ["bridge.min.js", "Kusto.Language.Bridge.min.js"]) {
  // Both are scripts for a browser: they define globals.
  const path = process.argv[2] + "/node_modules/@kusto/language-service-next/" + file;
  vm.runInThisContext(readFileSync(path, "utf8"), path);
}
const { Kusto, System } = globalThis;
const toList = (type, items) => {
  const list = new (System.Collections.Generic.List$1(type).ctor)();
  items.forEach((item) => list.add(item));
  return list;
};
const symbols = Kusto.Language.Symbols;
const tables = {
  traces:
    "(timestamp: datetime, message: string, severityLevel: int, itemCount: int, operation_Name: string, operation_Id: string, cloud_RoleName: string, cloud_RoleInstance: string)",
  requests:
    "(timestamp: datetime, name: string, success: string, resultCode: string, duration: real, itemCount: int, operation_Id: string)",
};
const members = Object.entries(tables).map(([name, schema]) => new symbols.TableSymbol.$ctor7(name, schema, null));
const database = new symbols.DatabaseSymbol.$ctor3("insights", null, toList(symbols.Symbol, members), false);
const globals = Kusto.Language.GlobalState.Default.WithDatabase(database);

const queries = JSON.parse(readFileSync(0, "utf8"));
const found = {};
for (const [name, query] of Object.entries(queries)) {
  const diagnostics = Kusto.Language.KustoCode.ParseAndAnalyze(query, globals).GetDiagnostics();
  found[name] = [];
  for (let i = 0; i < diagnostics.Count; i++) {
    const { Start, Message } = diagnostics.getItem(i);
    const line = query.slice(0, Start).split("\n").length;
    found[name].push(`line ${line}: ${Message}`);
  }
}
console.log(JSON.stringify(found));
