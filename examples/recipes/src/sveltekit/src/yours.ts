export { client, userWith } from "../../yours.js";
