// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {EnumerableMap} from "@openzeppelin/contracts/utils/structs/EnumerableMap.sol";
import {EnumerableSet} from "@openzeppelin/contracts/utils/structs/EnumerableSet.sol";

import {IHostRegistry} from "./interfaces/IHostRegistry.sol";

/// @title Registry of hosts
/// @notice Everybody may register; a record is written by its host alone. Nobody else has a right here, no owner exists.
/// Does not: vouch for any host. What a record says is the host's own claim.
contract HostRegistry is IHostRegistry {
    using EnumerableSet for EnumerableSet.AddressSet;
    using EnumerableSet for EnumerableSet.Bytes32Set;
    using EnumerableMap for EnumerableMap.AddressToUintMap;

    /// @notice Submitter keys per host: a fleet of boxes; bounds what `getHost` returns.
    uint256 public constant MAX_SUBMITTERS = 64;
    /// @notice Models per host: bounds what `getHost` returns.
    uint256 public constant MAX_MODELS = 128;
    /// @notice Payment tokens per model: bounds what `pricesOf` returns.
    uint256 public constant MAX_PRICES = 16;
    /// @notice Bytes of a URL.
    uint256 public constant MAX_URL_BYTES = 512;
    /// @notice Bytes of metadata: a small JSON document, or a link to a large one.
    uint256 public constant MAX_METADATA_BYTES = 4096;

    /// @dev `payout` is zero for accounts that never registered.
    struct Record {
        address payout;
        bool active;
        string apiUrl;
        string metadata;
        EnumerableSet.AddressSet submitters;
        EnumerableSet.Bytes32Set models;
        mapping(bytes32 modelDigest => EnumerableMap.AddressToUintMap) prices;
    }

    mapping(address host => Record) private _records;
    address[] private _hosts;

    /// @inheritdoc IHostRegistry
    function register(address payout, string calldata apiUrl, string calldata metadata) external {
        Record storage record = _records[msg.sender];
        require(record.payout == address(0), AlreadyRegistered(msg.sender));
        require(payout != address(0), ZeroValue());
        _checkLength(apiUrl, MAX_URL_BYTES);
        _checkLength(metadata, MAX_METADATA_BYTES);
        record.payout = payout;
        record.active = true;
        record.apiUrl = apiUrl;
        record.metadata = metadata;
        _hosts.push(msg.sender);
        emit HostRegistered(msg.sender, payout, apiUrl, metadata);
        emit ActiveChanged(msg.sender, true);
    }

    /// @inheritdoc IHostRegistry
    function setPayout(address payout) external {
        Record storage record = _own();
        require(payout != address(0), ZeroValue());
        record.payout = payout;
        emit PayoutChanged(msg.sender, payout);
    }

    /// @inheritdoc IHostRegistry
    function setApiUrl(string calldata apiUrl) external {
        Record storage record = _own();
        _checkLength(apiUrl, MAX_URL_BYTES);
        record.apiUrl = apiUrl;
        emit ApiUrlChanged(msg.sender, apiUrl);
    }

    /// @inheritdoc IHostRegistry
    function setMetadata(string calldata metadata) external {
        Record storage record = _own();
        _checkLength(metadata, MAX_METADATA_BYTES);
        record.metadata = metadata;
        emit MetadataChanged(msg.sender, metadata);
    }

    /// @inheritdoc IHostRegistry
    function setActive(bool active) external {
        _own().active = active;
        emit ActiveChanged(msg.sender, active);
    }

    /// @inheritdoc IHostRegistry
    function addSubmitter(address key) external {
        Record storage record = _own();
        require(key != address(0), ZeroValue());
        require(record.submitters.length() < MAX_SUBMITTERS, TooMany(MAX_SUBMITTERS));
        require(record.submitters.add(key), SubmitterExists(key));
        emit SubmitterAdded(msg.sender, key);
    }

    /// @inheritdoc IHostRegistry
    function removeSubmitter(address key) external {
        require(_own().submitters.remove(key), UnknownSubmitter(key));
        emit SubmitterRemoved(msg.sender, key);
    }

    /// @inheritdoc IHostRegistry
    function setPrice(bytes32 modelDigest, address token, uint256 pricePerToken) external {
        Record storage record = _own();
        require(modelDigest != 0, ZeroValue());
        EnumerableMap.AddressToUintMap storage prices = record.prices[modelDigest];
        if (pricePerToken == 0) {
            prices.remove(token);
            if (prices.length() == 0) record.models.remove(modelDigest);
        } else {
            prices.set(token, pricePerToken);
            require(prices.length() <= MAX_PRICES, TooMany(MAX_PRICES));
            record.models.add(modelDigest);
            require(record.models.length() <= MAX_MODELS, TooMany(MAX_MODELS));
        }
        emit PriceChanged(msg.sender, modelDigest, token, pricePerToken);
    }

    /// @inheritdoc IHostRegistry
    function isRegistered(address host) external view returns (bool) {
        return _records[host].payout != address(0);
    }

    /// @inheritdoc IHostRegistry
    function isActive(address host) external view returns (bool) {
        return _records[host].active;
    }

    /// @inheritdoc IHostRegistry
    function isSubmitter(address host, address key) external view returns (bool) {
        return _records[host].submitters.contains(key);
    }

    /// @inheritdoc IHostRegistry
    function payoutOf(address host) external view returns (address) {
        return _records[host].payout;
    }

    /// @inheritdoc IHostRegistry
    function priceOf(address host, bytes32 modelDigest, address token) external view returns (uint256 price) {
        (, price) = _records[host].prices[modelDigest].tryGet(token);
    }

    /// @inheritdoc IHostRegistry
    function pricesOf(address host, bytes32 modelDigest)
        external
        view
        returns (address[] memory tokens, uint256[] memory prices)
    {
        EnumerableMap.AddressToUintMap storage map = _records[host].prices[modelDigest];
        uint256 length = map.length();
        tokens = new address[](length);
        prices = new uint256[](length);
        for (uint256 i = 0; i < length; ++i) {
            (tokens[i], prices[i]) = map.at(i);
        }
    }

    /// @inheritdoc IHostRegistry
    function getHost(address host) external view returns (Host memory) {
        Record storage record = _records[host];
        return Host({
            payout: record.payout,
            active: record.active,
            apiUrl: record.apiUrl,
            metadata: record.metadata,
            submitters: record.submitters.values(),
            models: record.models.values()
        });
    }

    /// @inheritdoc IHostRegistry
    function hostCount() external view returns (uint256) {
        return _hosts.length;
    }

    /// @inheritdoc IHostRegistry
    function hosts(uint256 offset, uint256 limit) external view returns (address[] memory page) {
        uint256 count = _hosts.length;
        if (offset >= count) return new address[](0);
        uint256 length = count - offset < limit ? count - offset : limit;
        page = new address[](length);
        for (uint256 i = 0; i < length; ++i) {
            page[i] = _hosts[offset + i];
        }
    }

    function _own() private view returns (Record storage record) {
        record = _records[msg.sender];
        require(record.payout != address(0), NotRegistered(msg.sender));
    }

    function _checkLength(string calldata text, uint256 max) private pure {
        require(bytes(text).length <= max, TooLong(max, bytes(text).length));
    }
}
