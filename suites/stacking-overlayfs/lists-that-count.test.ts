import { aclFor } from '../lib/access-control-list.ts';
import { guestTest } from '../lib/guest-test.ts';
import { fill, layersOf, over } from '../lib/layers.ts';

/** Access control lists of directories of an overlay: that they count, and those that are there now. */

const [ACCESS, DEFAULT] = ['system.posix_acl_access', 'system.posix_acl_default'];
const [NAMED, OTHER, STRANGER] = [1500, 1501, 4000];
const [READ, SEARCH] = [4, 1];
/** Of the lower layer, copied up, and of the upper one. */
const DIRECTORIES = ['low', 'copied', 'up'];

guestTest(
  'a directory of an overlay is searched by the user whom its list names, also when all of it is known (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    await fill(client, lower, ['low/', 'low/f', 'copied/', 'copied/f']);
    await fill(client, upper, ['up/', 'up/f']);
    const data = aclFor([NAMED], SEARCH);
    for (const path of [`${lower}/low`, `${lower}/copied`, `${upper}/up`]) {
      await client.setxattr({ path, name: ACCESS, data });
    }
    await using overlay = await over(guest, client, layers);
    await client.chmod({ path: overlay.path, mode: 0o755 });
    await client.utimens({ path: overlay.file('copied'), atimeNs: 'now', mtimeNs: 'now' });
    for (const [who, ids, errno] of [
      ['a user whom the list names', { uid: NAMED, gid: STRANGER }, 'ok'],
      ['a stranger', { uid: STRANGER, gid: STRANGER }, 'EACCES'],
    ] as const) {
      await using searcher = await guest.client();
      await searcher.chdir({ path: overlay.path });
      await searcher.setCredentials(ids);
      // The first walk asks for what the later ones know, and these go through without locks.
      const walks = DIRECTORIES.flatMap((name) => Array<string>(3).fill(`${name}/f`));
      const calls = walks.map((path) => ({ call: 'lstat', args: { path } }) as const);
      for (const [nth, result] of (await searcher.batch({ calls, oneThread: true })).entries()) {
        const found = 'value' in result ? 'ok' : result.errno;
        t.is(found, errno, `${who}, ${walks[nth]}: walk ${1 + (nth % 3)}`);
      }
    }
  },
);

guestTest(
  'a default list that a directory of an overlay gets or loses is told and given to new files at once (A45)',
  async (t, guest) => {
    await using client = await guest.client();
    const layers = await layersOf(guest, 2);
    const [lower = '', upper = ''] = layers;
    const [one, two] = [aclFor([NAMED], READ), aclFor([OTHER], READ)];
    const steps = [undefined, one, two, undefined, one] as const;
    await fill(client, lower, ['d/', ...steps.map((_step, nth) => `d/removed${nth}`)]);
    await using overlay = await over(guest, client, layers);
    for (const nth of steps.keys()) await client.unlink({ path: overlay.file(`d/removed${nth}`) });
    const list = async (path: string, name: string): Promise<Uint8Array | string> => {
      const errno = await client.errno.getxattr({ path, name });
      return errno === 'ok' ? new Uint8Array(await client.getxattr({ path, name })) : errno;
    };
    const path = overlay.file('d');
    t.is(await list(path, DEFAULT), 'ENODATA', 'at first');
    for (const [nth, data] of steps.entries()) {
      if (data !== undefined) await client.setxattr({ path, name: DEFAULT, data });
      else if (nth > 0) await client.removexattr({ path, name: DEFAULT });
      const expected = data ?? 'ENODATA';
      t.deepEqual(await list(path, DEFAULT), expected, `step ${nth}: the default list that is told`);
      for (const name of [`made${nth}`, `removed${nth}`]) {
        const at = overlay.file(`d/${name}`);
        await client.close({ fd: await client.open({ path: at, flags: 'O_RDWR|O_CREAT', mode: 0o666 }) });
        t.deepEqual(
          await list(`${upper}/d/${name}`, ACCESS),
          expected,
          `step ${nth}: the list given to ${name}`,
        );
      }
    }
  },
);
