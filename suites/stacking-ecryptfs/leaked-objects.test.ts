import { bytes, pattern } from '../lib/bytes.ts';
import type { BatchCall, Client } from '../lib/client.ts';
import { passphraseKey } from '../lib/ecryptfs-format.ts';
import {
  encryptBlocks,
  lowerFile,
  passphrasePacket,
  publicKeyPacket,
  signaturePacket,
} from '../lib/ecryptfs-packets.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { doRounds, KMALLOC, leavesNoMemory, onOpen, PAGES, ROUNDS, TIMES, type Part } from '../lib/leaks.ts';
import { countObjects, staysGrown } from '../lib/object-counts.ts';
import { ecryptfsOptions, type MountRequest } from '../lib/stacked-mount.ts';

/** What is done often on ecryptfs leaves no object in the kernel once it is unmounted. */

const PASSPHRASE = 'fusegate';
/** Signature of no key. */
const NOBODYS = '0123456789abcdef';

const OWN_CACHES = [
  'auth_tok_list_item',
  'file_cache',
  'dentry_info_cache',
  'inode_cache',
  'sb_cache',
  'headers',
  'xattr_cache',
  'key_record_cache',
  'key_sig_cache',
  'global_auth_tok_cache',
  'key_tfm_cache',
].map((name) => `ecryptfs_${name}`);
/** Names, packets, and what ciphers and hashes are done with. */
const CACHES = ['filp', ...OWN_CACHES, ...KMALLOC];

interface Bench {
  readonly guest: TestGuest;
  readonly client: Client;
  readonly lower: string;
  /** Where ecryptfs is mounted and unmounted. */
  readonly target: string;
  readonly options: string;
}

interface Work {
  /** What there has to be before. */
  readonly prepare?: (bench: Bench) => Promise<unknown>;
  /** Calls of one round. */
  readonly calls: (bench: Bench) => readonly Part[];
  /** Calls of a round that fail: `open: EIO`. Default none. */
  readonly fails?: readonly string[];
  /** Each round has a mount of its own. */
  readonly mountsItself?: boolean;
  /** Default encrypted. */
  readonly names?: 'as they are';
  /** Default in the files. */
  readonly headers?: 'in attributes';
  readonly more?: string;
}

const umount = ({ target }: Bench): BatchCall => ({ call: 'umount2', args: { target } });

function mount({ lower, target, options }: Bench, more = ''): BatchCall {
  const request: MountRequest = { source: lower, type: 'ecryptfs', options: options + more };
  return { call: 'mount', args: { ...request, target } };
}

const { key, signature } = passphraseKey(PASSPHRASE);
const fileKey = pattern(16, 7);
const OWN = [
  passphrasePacket({ wrapped: encryptBlocks(key.subarray(0, 16), fileKey) }),
  signaturePacket({ signature }),
];
const PUBLIC = publicKeyPacket({ signature: NOBODYS, encryptedBytes: 16 });

/** Files that are not opened, by their packets of keys. */
const REFUSED: Readonly<Record<string, readonly Uint8Array[]>> = {
  'of others': [PUBLIC, PUBLIC],
  'of another version': [...OWN, publicKeyPacket({ signature, encryptedBytes: 16, version: 4 })],
  'of no cipher': [...OWN, passphrasePacket({ wrapped: fileKey, cipher: 1 })],
};

const WORK: Readonly<Record<string, Work>> = {
  'changes of files': {
    calls: ({ target }) => [
      onOpen({ path: `${target}/f`, flags: 'O_RDWR|O_CREAT', mode: 0o600 }, (fd) => [
        { call: 'pwrite', args: { fd, data: { make: { length: 100, seed: 1 } }, offset: 5000 } },
        { call: 'ftruncate', args: { fd, length: 50 } },
        { call: 'fsync', args: { fd } },
        { call: 'pread', args: { fd, count: 100, offset: 0 } },
      ]),
      { call: 'rename', args: { from: `${target}/f`, to: `${target}/g` } },
      { call: 'symlink', args: { target: 'somewhere', path: `${target}/l` } },
      { call: 'lstat', args: { path: `${target}/l` } },
      { call: 'readlink', args: { path: `${target}/l` } },
      { call: 'readdir', args: { path: target } },
      { call: 'unlink', args: { path: `${target}/l` } },
      { call: 'unlink', args: { path: `${target}/g` } },
    ],
  },
  'changes of files whose headers are attributes': {
    headers: 'in attributes',
    calls: ({ target }) => [
      onOpen({ path: `${target}/f`, flags: 'O_RDWR|O_CREAT', mode: 0o600 }, (fd) => [
        { call: 'pwrite', args: { fd, data: { make: { length: 100, seed: 1 } }, offset: 0 } },
        { call: 'ftruncate', args: { fd, length: 50 } },
      ]),
      { call: 'unlink', args: { path: `${target}/f` } },
    ],
  },
  'mounts that read a file': {
    mountsItself: true,
    prepare: async ({ client, target }) => client.writeFile({ path: `${target}/f`, data: 'contents' }),
    calls: (bench) => [
      mount(bench),
      onOpen({ path: `${bench.target}/f`, flags: 'O_RDONLY' }, (fd) => [
        { call: 'pread', args: { fd, count: 100, offset: 0 } },
      ]),
      umount(bench),
    ],
  },
  'mounts that are refused for a key': {
    mountsItself: true,
    calls: (bench) => [mount(bench, `,ecryptfs_sig=${NOBODYS}`)],
    fails: ['mount: ENOENT'],
  },
  'lookups of names that cannot be encrypted': {
    // A key of no length that AES has.
    more: 'ecryptfs_fn_key_bytes=17',
    calls: ({ target }) => [{ call: 'lstat', args: { path: `${target}/f` } }],
    fails: ['lstat: EINVAL'],
  },
  'opens that are refused for their keys': {
    names: 'as they are',
    prepare: async ({ client, lower }) => {
      for (const [name, packets] of Object.entries(REFUSED)) {
        const data = lowerFile({ packets, fileKey, data: bytes('contents') });
        await client.writeFile({ path: `${lower}/${name}`, data });
      }
    },
    calls: ({ target }) =>
      Object.keys(REFUSED).map((name) => ({
        call: 'open',
        args: { path: `${target}/${name}`, flags: 'O_RDONLY' },
      })),
    fails: Object.keys(REFUSED).map(() => 'open: EIO'),
  },
};

/** @returns the calls that failed, as `doRounds` does. */
async function doWork(
  bench: Bench,
  { calls, mountsItself = false }: Work,
  rounds: number,
): Promise<string[]> {
  const { client } = bench;
  if (!mountsItself) await client.batch({ calls: [mount(bench)] });
  const failed = await doRounds(client, calls(bench), rounds);
  if (!mountsItself) await client.batch({ calls: [umount(bench)] });
  return failed;
}

for (const [what, work] of Object.entries(WORK)) {
  guestTest(`${ROUNDS} ${what} on ecryptfs leave no objects in the kernel (C19)`, async (t, guest) => {
    await using client = await guest.client({ callMs: 60_000 });
    // Not every kernel has attributes of users on tmpfs.
    const lower = await guest.directory(work.headers ? 'ext4' : 'tmpfs', 'encrypted');
    const target = await guest.directory('area', 'ecryptfs');
    t.is(await guest.ecryptfsKey(PASSPHRASE), signature, 'the key of the mount');
    const options = ecryptfsOptions(signature, {
      namesKey: work.names ? undefined : signature,
      more: [...(work.headers ? ['ecryptfs_xattr_metadata'] : []), ...(work.more ? [work.more] : [])],
    });
    const bench = { guest, client, lower, target, options };
    if (work.prepare) {
      await client.batch({ calls: [mount(bench)] });
      await work.prepare(bench);
      await client.umount2({ target });
    }
    const fails = [(work.fails ?? []).join(', ')];
    t.deepEqual(await doWork(bench, work, 1), fails, 'once');
    const before = await countObjects(guest, CACHES);
    t.deepEqual(await doWork(bench, work, ROUNDS), fails, 'each of them');
    t.deepEqual(await staysGrown(guest, before, CACHES), []);
  });
}

guestTest(`${PAGES * TIMES} pages that ecryptfs encrypts leave no memory in use (C19)`, async (t, guest) => {
  await using client = await guest.client({ callMs: 60_000 });
  await using ecryptfs = await guest.mountEcryptfs(
    { lower: await guest.directory('tmpfs', 'encrypted') },
    client,
  );
  const fd = await client.open({ path: ecryptfs.file('f'), flags: 'O_RDWR|O_CREAT' });
  const data = { make: { length: PAGES * 4096, seed: 1 } };
  const calls: BatchCall[] = [{ call: 'pwrite', args: { fd, data, offset: 0 } }];
  await leavesNoMemory(t, guest, { client, calls });
  await client.close({ fd });
});
