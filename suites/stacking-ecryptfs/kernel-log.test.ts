import { bytes, pattern } from '../lib/bytes.ts';
import type { Client } from '../lib/client.ts';
import { guestTest } from '../lib/guest-test.ts';
import { ecryptfsOptions } from '../lib/stacked-mount.ts';

/** What ecryptfs says in the kernel log: that something was refused, and nothing of what goes well. */

/** What its messages are about. Others may have something to say at the same time. */
const OF_ECRYPTFS = /ecryptfs|[Ee]rror|[Kk]ey\b|packet|header|region|auth tok/;

/** By the options besides those of a key. */
const MOUNTS: Readonly<Record<string, { readonly names?: true; readonly more?: readonly string[] }>> = {
  'a mount': {},
  'a mount that encrypts names': { names: true },
  'a mount that keeps headers in attributes': { more: ['ecryptfs_xattr_metadata'] },
  'a mount that shows plain files': { more: ['ecryptfs_passthrough'] },
};

async function work(client: Client, at: string): Promise<void> {
  const path = `${at}/f`;
  const fd = await client.open({ path, flags: 'O_RDWR|O_CREAT' });
  await client.pwrite({ fd, data: pattern(10_000), offset: 0 });
  await client.pwrite({ fd, data: bytes('far'), offset: 20_000 });
  for (const length of [100, 9000, 50]) await client.ftruncate({ fd, length });
  await client.fsync({ fd });
  await client.close({ fd });
  await client.chmod({ path, mode: 0o600 });
  await client.setxattr({ path, name: 'user.word', data: bytes('value') });
  await client.link({ from: path, to: `${at}/g` });
  await client.symlink({ target: 'f', path: `${at}/l` });
  await client.readlink({ path: `${at}/l` });
  await client.mkdir({ path: `${at}/d` });
  await client.rename({ from: `${at}/g`, to: `${at}/d/g` });
  await client.readdir({ path: at });
  await client.unlink({ path: `${at}/l` });
}

guestTest('ecryptfs says nothing of what goes well', async (t, guest) => {
  await using client = await guest.client();
  const signature = await guest.ecryptfsKey();
  for (const [what, { names, more }] of Object.entries(MOUNTS)) {
    const options = ecryptfsOptions(signature, { namesKey: names && signature, more });
    // The first time other things may happen that never happen again: a cipher is tried, for instance.
    const said: string[] = [];
    for (const time of ['first', 'second']) {
      const request = { source: await guest.directory('ext4'), type: 'ecryptfs', options };
      const after = (await guest.kernelLog()).at(-1)?.seq;
      {
        await using ecryptfs = await guest.mount(request, client);
        await work(client, ecryptfs.path);
        t.is(await ecryptfs.unmount(), 'ok', what);
      }
      {
        await using again = await guest.mount(request, client);
        t.is((await client.readFile({ path: again.file('f') })).length, 50, what);
        for (const name of ['f', 'd/g']) await client.unlink({ path: again.file(name) });
        await client.rmdir({ path: again.file('d') });
        t.is(await again.unmount(), 'ok', what);
      }
      if (time === 'second') said.push(...(await guest.kernelLog(after)).map((record) => record.text));
    }
    t.deepEqual(
      said.filter((line) => OF_ECRYPTFS.test(line)),
      [],
      what,
    );
  }
});

/** Mounts that are refused, by why. */
const REFUSED: Readonly<Record<string, { readonly directory: string; readonly keyBytes: number }>> = {
  'there is no such directory': { directory: '/missing', keyBytes: 16 },
  'AES has no key of such a length': { directory: '', keyBytes: 17 },
};

guestTest('that a mount of ecryptfs is refused is told in the kernel log', async (t, guest) => {
  await using client = await guest.client();
  const lower = await guest.directory('ext4');
  const signature = await guest.ecryptfsKey();
  for (const [why, { directory, keyBytes }] of Object.entries(REFUSED)) {
    const options = `ecryptfs_sig=${signature},ecryptfs_cipher=aes,ecryptfs_key_bytes=${keyBytes}`;
    const request = { source: lower + directory, type: 'ecryptfs', options };
    const after = (await guest.kernelLog()).at(-1)?.seq;
    t.not(await guest.mountErrno(request, client), 'ok', why);
    const lines = (await guest.kernelLog(after)).map((record) => record.text);
    // In which words is the kernel's business.
    t.true(
      lines.some((line) => OF_ECRYPTFS.test(line)),
      why,
    );
  }
});
