// A query in NQL, its rows as JSON, a line each.
//
//   node query.mjs 'src stream="alerts" startTime=-1d@now | top rule'
//
// Which Master is meant, and who is signed in, the environment says (master.mjs). Ctrl-C ends the query on the Master too.
import { Failure, failureOf, main } from "./failures.mjs";
import { findMaster } from "./master.mjs";

/** What turns a cell of a column into a value: its list holds numbers, texts or truths, times are Unix milliseconds. */
const READERS = {
  QUERY_COLUMN_TYPE_TIME: (cells) => cells.times.map((time) => new Date(time).toISOString()),
  QUERY_COLUMN_TYPE_TEXT: (cells) => cells.texts,
  QUERY_COLUMN_TYPE_NUMBER: (cells) => cells.numbers,
  QUERY_COLUMN_TYPE_BOOLEAN: (cells) => cells.booleans,
  QUERY_COLUMN_TYPE_TEXTS: (cells) => cells.texts.map((text) => (text ? JSON.parse(text) : null)),
  QUERY_COLUMN_TYPE_JSON: (cells) => cells.texts.map((text) => (text ? JSON.parse(text) : null)),
};

/** The rows of a step, as objects. */
function* rowsOf(rows, columns) {
  const read = columns.map(({ name, type }, place) => {
    const cells = READERS[type](rows.columns[place]);
    for (const absent of rows.columns[place].absent) cells[absent] = null;
    return [name, cells];
  });
  for (let row = 0; row < rows.count; row += 1) yield Object.fromEntries(read.map(([name, cells]) => [name, cells[row]]));
}

function ask(client, query) {
  let columns = [];
  let ended = false;
  const steps = client.query({ query });
  return new Promise((resolve, reject) => {
    steps.on("data", ({ step, begin, rows, end }) => {
      if (step === "begin") columns = begin.columns;
      if (step === "rows") for (const row of rowsOf(rows, columns)) console.log(JSON.stringify(row));
      if (step === "end") {
        ended = true;
        console.error(`${end.counts} rows${end.limited ? ", and there are more" : ""}; ${end.read.rowsRead} were read`);
      }
    });
    // A stream that breaks off between two steps ends without an error in some libraries: only `end` says that all is there.
    steps.on("end", () => (ended ? resolve() : reject(new Failure("INCOMPLETE", "the answer broke off"))));
    steps.on("error", (error) => reject(failureOf(error)));
  });
}

async function program() {
  const [query] = process.argv.slice(2);
  if (!query) throw new Failure("USAGE", "node query.mjs QUERY");
  const client = (await findMaster()).connect("StreamService");
  try {
    await ask(client, query);
  } finally {
    client.close();
  }
}

await main(program);
