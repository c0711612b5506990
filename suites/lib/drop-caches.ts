import type { Client } from './client.ts';

/** Documentation/admin-guide/sysctl/vm.rst, drop_caches. */
const DROPS = { pages: '1', 'names and inodes': '2', all: '3' } as const;

/** Has the kernel give up what its caches hold and nobody uses. Names that were used a moment ago may stay the first time. */
export async function dropCaches(client: Client, what: keyof typeof DROPS): Promise<void> {
  await client.writeFile({ path: '/proc/sys/vm/drop_caches', data: DROPS[what], flags: 'O_WRONLY' });
}
