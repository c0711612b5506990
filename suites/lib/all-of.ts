import type { BatchCall, Client } from './client.ts';

/** What calls that one thread makes give, one after the other: each its value, or its errno. */
export async function allOf(client: Client, calls: readonly BatchCall[]): Promise<unknown[]> {
  const results = await client.batch({ calls, oneThread: true });
  return results.map((result) => ('value' in result ? result.value : result.errno));
}
