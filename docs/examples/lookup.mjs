// Calls a service through the gateway of this host: node lookup.mjs SERVICE [TIMES]
// Prints which host took each call. Node 18 or newer; nothing to install.
const gateway = process.env.BDSERVER_GATEWAY ?? "http://127.0.0.1:9080";
const [service, times = "1"] = process.argv.slice(2);

/** Where this call goes: {url, node, …}, as `bdwhereis --json` has it. */
async function whereis(name) {
  const answer = await fetch(`${gateway}/v1/whereis/${encodeURIComponent(name)}`);
  const said = await answer.json();
  if (!answer.ok) throw new Error(said.message);
  return said;
}

/** The answer of a host that takes the call, and its node's name. A host may end between its word and the call: ask again. */
async function call(name, tries = 3) {
  const { url, node } = await whereis(name);
  try {
    const answer = await fetch(url);
    if (!answer.ok) throw new Error(`${node} answers ${answer.status}`);
    return { node, text: await answer.text() };
  } catch (error) {
    if (tries <= 1) throw error;
    return call(name, tries - 1);
  }
}

try {
  for (let number = 0; number < Number(times); number += 1) {
    const { node, text } = await call(service);
    console.log(`${node}: ${text.length} characters`);
  }
} catch (error) {
  console.error(`lookup.mjs: ${error.message}`);
  process.exitCode = 1;
}
