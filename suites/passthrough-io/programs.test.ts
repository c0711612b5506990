import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { FuseMount } from '../lib/fuse-mount.ts';
import { copyProgram, runningFrom, runs } from '../lib/program-file.ts';
import { needsMappings } from '../lib/registration.ts';
import type { TestGuest } from '../lib/guest.ts';

guestTest(
  'a program runs from a passthrough file, and a shared library loads from one (A20)',
  async (t, guest) => {
    needsMappings(guest);
    await using fuse = await guest.mountFuse();
    await copyProgram(guest, 'cat', fuse.backing('cat'));
    const find = "ldd /bin/cat | sed -n 's/.* => \\(\\/[^ ]*libc\\.so[^ ]*\\).*/\\1/p'";
    const { stdout: libc } = await guest.run(['sh', '-c', find]);
    await guest.run(['cp', libc.trim(), fuse.backing('libc.so.6')]);

    const { stdout: maps } = await guest.run([
      'env',
      `LD_LIBRARY_PATH=${fuse.path}`,
      fuse.file('cat'),
      '/proc/self/maps',
    ]);
    const shown = guest.expected.mappingPath === 'fuse' ? fuse.path : fuse.root;
    for (const name of ['cat', 'libc.so.6']) {
      const lines = maps.split('\n').filter((line) => line.endsWith(`${shown}/${name}`));
      t.true(
        lines.some((line) => line.includes(' r-xp ')),
        `the text of ${name} is mapped from ${shown}`,
      );
    }
    t.deepEqual(await fuse.dataRequests(), []);
  },
);

/** What open for writing gives while the program runs from that path, and exec while it is open for writing. */
async function busyErrnos(guest: TestGuest, client: Client, path: string): Promise<readonly string[]> {
  const first = await client.open({ path, flags: 'O_RDWR' });
  const execWhileOpen = await runs(guest, path);
  await client.close({ fd: first });
  await using _running = await runningFrom(guest, path);
  const openWhileRunning = await client.errno.open({ path, flags: 'O_WRONLY' });
  return [execWhileOpen, openWhileRunning];
}

guestTest('a program that runs cannot be written, nor one that is written run (A20)', async (t, guest) => {
  await using fuse: FuseMount = await guest.mountFuse();
  await using client = await guest.client();
  for (const name of ['sh', 'native']) await copyProgram(guest, 'sh', fuse.backing(name));
  const native = await busyErrnos(guest, client, fuse.backing('native'));
  t.deepEqual(await busyErrnos(guest, client, fuse.file('sh')), native);
  t.is(native[1], 'ETXTBSY', 'the backing filesystem itself does refuse it');
  t.is((await guest.run([fuse.file('sh'), '-c', 'echo fine'])).stdout, 'fine\n');
});
