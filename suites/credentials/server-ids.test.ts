import { aclFor } from '../lib/access-control-list.ts';
import type { Client } from '../lib/client.ts';
import type { FuseOptions, FuseMount } from '../lib/fuse-mount.ts';
import { guestTest } from '../lib/guest-test.ts';
import type { TestGuest } from '../lib/guest.ts';
import { mapIds } from '../lib/idmapped.ts';

/** A server whose user namespace has other numbers for the same users: 1 to 10 are those known outside as 1000 and up. */

const LAUNCHER = ['unshare', '--user', '--keep-caps', '--mount'];
/** Root is the same in both. */
const IDS = ['0 0 1', '1 1000 10'];
/** Longer than any test. Seconds. */
const LONG = 100_000;
const ACL = 'system.posix_acl_access';
const READ = 4;

interface Inside extends AsyncDisposable {
  readonly fuse: FuseMount;
  readonly root: Client;
  /** Path of a file for who is not in the mount namespace of the server. */
  readonly at: (name: string) => string;
  /** Somebody in both namespaces of the server, with ids as they are there. */
  readonly somebody: (uid: number, gid: number, groups: number[]) => Promise<Client>;
}

async function mountedInside(guest: TestGuest, options: FuseOptions = {}): Promise<Inside> {
  const stack = new AsyncDisposableStack();
  const root = stack.use(await guest.client());
  const server = stack.use(await guest.server({ launcher: LAUNCHER }));
  await mapIds(root, server.pid, IDS);
  const believed = { passthrough: 'off', entryValidS: LONG, attrValidS: LONG } as const;
  const fuse = stack.use(await guest.mountFuse({ server, allowOther: false, ...believed, ...options }));
  const somebody = async (uid: number, gid: number, groups: number[]): Promise<Client> => {
    const launcher = ['nsenter', `--target=${server.pid}`, '--user', '--mount', '--preserve-credentials'];
    const client = stack.use(await guest.client({ launcher }));
    await client.chdir({ path: fuse.path });
    await client.setCredentials({ uid, gid, groups });
    return client;
  };
  return {
    fuse,
    root,
    at: (name) => `/proc/${server.pid}/root${fuse.file(name)}`,
    somebody,
    [Symbol.asyncDispose]: () => stack.disposeAsync(),
  };
}

guestTest(
  'the owner of a file is told in the numbers of who asks, asked for or kept, not in those of the server (F1)',
  async (t, guest) => {
    await using inside = await mountedInside(guest);
    const { fuse, root, at } = inside;
    await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
    await root.chown({ path: fuse.backing('f'), uid: 1001, gid: 1002 });
    for (const flags of ['AT_STATX_FORCE_SYNC', 'AT_STATX_DONT_SYNC']) {
      t.like(await root.stat({ path: at('f'), flags }), { uid: 1001, gid: 1002 }, flags);
    }
  },
);

guestTest('the server is told of a new owner in its own numbers (F1)', async (t, guest) => {
  await using inside = await mountedInside(guest);
  const { fuse, root, at } = inside;
  await root.writeFile({ path: fuse.backing('f'), data: 'contents' });
  await root.chown({ path: at('f'), uid: 1003, gid: 1004 });
  const [request] = await fuse.requests('SETATTR');
  t.like(request?.args, { uid: 4, gid: 5 });
  for (const path of [at('f'), fuse.backing('f')]) {
    t.like(await root.stat({ path }), { uid: 1003, gid: 1004 }, path);
  }
});

guestTest(
  'an access control list has the numbers of who asks, and for the server its own (A45, F1)',
  async (t, guest) => {
    await using inside = await mountedInside(guest, { init: { addFlags: ['POSIX_ACL'] } });
    const { fuse, root, at } = inside;
    for (const name of ['set', 'there']) await root.writeFile({ path: fuse.backing(name), data: 'contents' });
    const set = { name: ACL, data: aclFor([1003], READ, [1004]) };
    t.is(await root.errno.setxattr({ path: at('set'), ...set }), 'ok', 'set through FUSE');
    t.deepEqual(
      await root.getxattr({ path: fuse.backing('set'), name: ACL }),
      set.data,
      'what the server has',
    );
    t.deepEqual(await root.getxattr({ path: at('set'), name: ACL }), set.data, 'what is told');
    await root.setxattr({ path: fuse.backing('there'), ...set });
    t.deepEqual(await root.getxattr({ path: at('there'), name: ACL }), set.data, 'what was there already');
  },
);

guestTest(
  'who makes a name is told in the numbers of the server, with the group of the directory (F1)',
  async (t, guest) => {
    const groups = guest.expected.offers.includes('CREATE_SUPP_GROUP');
    const init = groups ? ({ addFlags: ['CREATE_SUPP_GROUP'] } as const) : {};
    await using inside = await mountedInside(guest, { allowOther: true, init });
    const { fuse, root, somebody } = inside;
    await root.mkdir({ path: fuse.backing('d') });
    await root.chown({ path: fuse.backing('d'), uid: 1001, gid: 1003 });
    const client = await somebody(2, 3, [4]);
    await client.mkdir({ path: 'd/e' });
    const [request] = await fuse.requests('MKDIR');
    t.like(request, { uid: 2, gid: 3 });
    t.deepEqual(request?.args['groups'], groups ? ['4'] : undefined, 'what is 1003 outside');
    t.like(
      await client.stat({ path: 'd' }),
      { uid: 2, gid: 4 },
      'who is in the namespace has its numbers, too',
    );
  },
);
