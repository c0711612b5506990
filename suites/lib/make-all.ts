import type { BatchCall, Client } from './client.ts';

/**
 * Calls of which none may fail, all in one request: where the kernel's objects are counted, a trip to the host for each
 * would take longer than the call.
 */
export async function makeAll(client: Client, calls: readonly BatchCall[]): Promise<unknown[]> {
  const results = await client.batch({ calls, digests: true, oneThread: true });
  const failed = results.filter((result) => 'errno' in result);
  if (failed.length > 0) throw new Error(`calls failed: ${JSON.stringify(failed.slice(0, 3))}`);
  return results;
}
