import type { Client } from './client.ts';

const PAGE = 4096;

/** Memory of two pages of which there is only the first, with `data` in it: a mapping of the client. */
export async function memoryThatEnds(client: Client, data: Uint8Array): Promise<number> {
  const fd = await client.memfd_create({ name: 'page' });
  await client.pwrite({ fd, data, offset: 0 });
  const how = { fd, length: 2 * PAGE, prot: 'PROT_READ|PROT_WRITE', flags: 'MAP_SHARED' };
  const map = await client.mmap(how);
  await client.close({ fd });
  return map;
}
