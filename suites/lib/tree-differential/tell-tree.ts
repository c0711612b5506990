import type { TreeEntry } from '#rootfs/protocol/syscalls.ts';

const KIND = 0o170_000;
const DIRECTORY = 0o040_000;
/** Later than every time that a sequence sets: the time of the call. */
const SET_BEFORE_NS = 1e18;

/** A line for each name: what is the same on any filesystem that says the truth, and what contradicts itself. */
export function tellTree(entries: readonly TreeEntry[]): string {
  const first = new Map<string, string>();
  return entries
    .map((each) => {
      const { path, stat, ino } = each;
      const same = first.get(ino);
      if (same === undefined) first.set(ino, path);
      const isDirectory = (stat.mode & KIND) === DIRECTORY;
      return [
        path,
        `mode ${stat.mode.toString(8)}`,
        `owner ${stat.uid}:${stat.gid}`,
        stat.mtimeNs < SET_BEFORE_NS ? `mtime ${Math.round(stat.mtimeNs / 1000)} us` : '',
        isDirectory ? '' : `links ${stat.nlink} size ${stat.size}`,
        each.content,
        ...(typeof each.xattrs === 'string'
          ? [each.xattrs]
          : Object.entries(each.xattrs).map((pair) => pair.join('='))),
        same === undefined ? '' : `the same as ${same}`,
        ...contradictions(each),
      ]
        .filter(Boolean)
        .join(' ');
    })
    .join('\n');
}

/** What a directory says of its names against what the names say of themselves. */
function contradictions({ entry, dot, stat, ino }: TreeEntry): string[] {
  const said: string[] = [];
  if (entry !== null && entry.ino !== ino) said.push(`d_ino ${entry.ino} st_ino ${ino}`);
  // DT_* is the type's part of the mode (IFTODT).
  if (entry !== null && entry.type !== (stat.mode & KIND) >> 12) said.push(`d_type ${entry.type}`);
  // Of `..` an overlay tells the number that the directory above has in a layer.
  if (dot !== undefined && dot !== ino) said.push(`d_ino of . ${dot} st_ino ${ino}`);
  return said;
}
